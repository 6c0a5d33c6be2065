// Keys of the pair browser: each presses the button of the same name, where that is on the page.
const KEYS = {
  a: "accept", r: "reject", f: "flip", u: "undo", j: "next", k: "back", 1: "first", 2: "half", 3: "second",
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable=true]");
  const button = document.getElementById(KEYS[event.key]);
  if (typing || !button || button.offsetParent === null) return;
  event.preventDefault();
  button.click();
});
