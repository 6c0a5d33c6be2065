// A file that is more than the gateway takes at once is refused before it is sent, with a word on what to do.
const refuseHuge = (event) => {
  const notice = document.querySelector(".too-large");
  const files = event.dataTransfer?.files ?? event.target.files;
  if (!notice || !files?.length) return;
  const most = Number(notice.dataset.mostBytes);
  const huge = [...files].find((file) => file.size > most);
  notice.hidden = !huge;
  if (!huge) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (event.target.type === "file") event.target.value = "";
  notice.textContent =
    `${huge.name} has ${Math.ceil(huge.size / 1e6)} MB, and at most ${most / 1e6} MB are taken at once. ` +
    "Split it, and submit the parts as jobs of their own; nothing you typed is lost.";
};
document.addEventListener("change", refuseHuge, true);
document.addEventListener("drop", refuseHuge, true);
