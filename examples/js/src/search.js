// Finds products by a name that may be misspelt: edit distance over a small
// catalogue. Knows nothing of HTTP.

const PRODUCTS = [
  ["lamp", "Desk lamp, brass", 49.9],
  ["chair", "Oak chair", 129],
  ["desk", "Standing desk", 349.5],
  ["rug", "Wool rug", 89.95],
  ["shelf", "Wall shelf", 64],
  ["clock", "Station clock", 74.25],
  ["vase", "Stoneware vase", 38],
  ["stool", "Milking stool", 55.5],
].map(([id, title, price]) => ({ id, title, price }));

/** The `limit` nearest products, the best first. */
export function search(query, limit) {
  const wanted = query.trim().toLowerCase();
  const found = PRODUCTS.map((product) => ({ ...product, score: score(wanted, product) }))
    .filter((product) => product.score > 0)
    .sort((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1))
    .slice(0, limit);
  return { query: wanted, found };
}

/** 1 for the very word, 0 for nothing in common. */
function score(wanted, product) {
  if (wanted === "") {
    return 0;
  }
  const words = [product.id, ...product.title.toLowerCase().match(/[a-z]+/g)];
  const best = Math.max(...words.map((word) => 1 - distance(wanted, word) / Math.max(wanted.length, word.length)));
  return Math.round(best * 100) / 100;
}

/** Levenshtein distance, one row at a time. */
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const swap = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, swap);
    }
    row = next;
  }
  return row[b.length];
}
