"""Which pairs have a word: an inverted index, so that a search need not read a hundred thousand texts."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class WordIndex:
    """The rows in which each word stands: those of word i are rows[starts[i]:starts[i + 1]]."""

    words: list[str]
    starts: list[int]
    rows: Any

    def rows_with(self, part: str) -> Any:
        """The rows that have a word with `part` in it, more than once where they have several."""
        spans = [
            self.rows.slice(self.starts[number], self.starts[number + 1] - self.starts[number])
            for number, word in enumerate(self.words)
            if part in word
        ]
        return pa.concat_arrays(spans) if spans else self.rows.slice(0, 0)


def index_words(texts: Any) -> WordIndex:
    """The words of an Arrow array of lower-case texts."""
    split = pc.utf8_split_whitespace(texts)
    said = pc.list_flatten(split).dictionary_encode()
    table = pa.table({"word": said.indices, "row": pc.list_parent_indices(split).cast(pa.uint64())})
    table = table.sort_by("word").combine_chunks()
    counts = pc.value_counts(table["word"]).flatten()[1].to_pylist()  # in the order of the words' numbers
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + count)
    rows = table["row"].combine_chunks()
    return WordIndex(said.dictionary.to_pylist(), starts, rows)
