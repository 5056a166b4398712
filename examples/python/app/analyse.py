"""The text analysis: pattern matching, counting and digests. Shares no code
with the report, so the two requests touch different parts of the language."""

import difflib
import hashlib
import re
import textwrap
import unicodedata
import zlib
from collections import Counter
from datetime import datetime, timezone

WORD = re.compile(r"[^\W\d_][\w'-]*")
MAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
STAMP = re.compile(r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:\d{2})?)?\b")
SENTENCE = re.compile(r"(?<=[.!?])\s+")
# Comparing every word with every other is quadratic.
COMPARED_WORDS_MAX = 200


def text(source: str) -> dict:
    """Everything the endpoint answers, as JSON-ready values."""
    normal = unicodedata.normalize("NFC", source)
    words = [word.casefold() for word in WORD.findall(normal)]
    counts = Counter(words)
    raw = normal.encode()
    packed = zlib.compress(raw, 9)
    return {
        "characters": len(normal),
        "words": len(words),
        "distinct": len(counts),
        "sentences": len([part for part in SENTENCE.split(normal.strip()) if part]),
        "frequent": counts.most_common(5),
        "alike": alike(sorted(counts)),
        "mail": sorted(set(MAIL.findall(normal))),
        "dates": [seen for stamp in STAMP.findall(normal) if (seen := moment(stamp))],
        "scripts": Counter(unicodedata.name(char, "?").split()[0] for char in normal if char.isalpha()),
        "compressed_to": round(len(packed) / len(raw), 3) if raw else None,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "sha3": hashlib.sha3_256(raw).hexdigest(),
        "begins": textwrap.shorten(normal, width=60, placeholder=" ..."),
    }


def alike(words: list[str]) -> list[list[str]]:
    """Words that look like one another: spelling mistakes, mostly."""
    pairs = []
    for index, word in enumerate(words[:COMPARED_WORDS_MAX]):
        later = [other for other in words[index + 1 : COMPARED_WORDS_MAX] if len(word) > 4]
        pairs += [[word, other] for other in difflib.get_close_matches(word, later, n=1, cutoff=0.85)]
    return pairs[:5]


def moment(stamp: str) -> str | None:
    """A date in UTC, or nothing when it only looked like one."""
    try:
        seen = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return seen.replace(tzinfo=seen.tzinfo or timezone.utc).astimezone(timezone.utc).isoformat()
