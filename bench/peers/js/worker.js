// The handler of examples/js `GET /search` for workerd: the same search, the same answer and the same line in the log.

import { search } from "search.js";

export default {
  fetch(request) {
    const url = new URL(request.url);
    const limit = Math.min(Math.max(Number.parseInt(url.searchParams.get("limit") ?? 3, 10), 0), 20);
    const text = `${JSON.stringify(search(url.searchParams.get("q") ?? "", limit), null, 2)}\n`;
    console.log(`${request.method} ${url.pathname} 200`);
    return new Response(text, { headers: { "content-type": "application/json" } });
  },
};
