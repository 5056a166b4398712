// Calls of other functions of the application: what a chain of functions is made of.

// A name that can stand in a host name; whatever else is asked for is no function.
const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;

/** The next function gave no answer that can be used; the message says why. */
export class NotRelayed extends Error {}

/** `/relay/two/three` asks the function `two` for `/relay/three`, and so on; the last one asks nobody. */
export async function passOn(path) {
  const [name, ...rest] = path.split("/").filter((part) => part !== "").slice(1);
  if (name === undefined) {
    return { functions: 1 };
  }
  if (!NAME.test(name)) {
    throw new NotRelayed("no such function");
  }
  const response = await ask(name, `/relay/${rest.join("/")}`);
  if (response.status !== 200) {
    throw new NotRelayed(`${name} answers ${response.status}`);
  }
  const { functions } = await response.json();
  return { functions: functions + 1 };
}

async function ask(name, path) {
  try {
    return await fetch(`http://${name}.forerun.internal${path}`);
  } catch {
    throw new NotRelayed(`${name} does not answer`);
  }
}
