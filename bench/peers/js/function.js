// The handler of examples/js `GET /search` for @google-cloud/functions-framework: the same search, the same answer and
// the same line in the log; only what stands between it and the socket is another.

import { search } from "../../../examples/js/src/search.js";

export function answer(request, response) {
  const limit = Math.min(Math.max(Number.parseInt(request.query.limit ?? 3, 10), 0), 20);
  const text = `${JSON.stringify(search(request.query.q ?? "", limit), null, 2)}\n`;
  response.status(200).set("content-type", "application/json").send(text);
  console.log(`${request.method} ${request.path} 200`);
}
