// Checks and sums a list of orders. Shares no code with the search, so the two
// requests touch different parts of the engine: JSON, maps, dates and digests.

/** The list can't be taken as it is; the message says where. */
export class BadOrder extends Error {}

const ORDERS_MAX = 10_000;

/** Totals in cents by product and month, and a digest of the checked list. */
export async function summary(text) {
  const orders = parse(text).map(checked);
  const byProduct = new Map();
  const byMonth = new Map();
  for (const { product, cents, day } of orders) {
    add(byProduct, product, cents);
    add(byMonth, day.toISOString().slice(0, 7), cents);
  }
  const canonical = orders.map(({ product, cents, day }) => `${product}:${cents}:${day.toISOString()}`).join("\n");
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(canonical));
  return {
    orders: orders.length,
    total: money(orders.reduce((sum, order) => sum + order.cents, 0)),
    by_product: totals(byProduct),
    by_month: totals(byMonth),
    sha256: Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join(""),
  };
}

function parse(text) {
  let orders;
  try {
    orders = JSON.parse(text);
  } catch (error) {
    throw new BadOrder(`not JSON: ${error.message}`);
  }
  if (!Array.isArray(orders) || orders.length > ORDERS_MAX) {
    throw new BadOrder(`send an array of at most ${ORDERS_MAX} orders`);
  }
  return orders;
}

function checked(order, index) {
  const day = new Date(order?.day);
  const price = Number(order?.price);
  if (typeof order?.product !== "string" || Number.isNaN(day.getTime()) || !Number.isFinite(price)) {
    throw new BadOrder(`order ${index} needs product, price and day`);
  }
  const pieces = Number.isInteger(order.pieces) ? order.pieces : 1;
  return { product: order.product, cents: Math.round(price * 100) * pieces, day };
}

function add(sums, key, cents) {
  sums.set(key, (sums.get(key) ?? 0) + cents);
}

function totals(sums) {
  return Object.fromEntries([...sums].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, cents]) => [key, money(cents)]));
}

function money(cents) {
  return (cents / 100).toFixed(2);
}
