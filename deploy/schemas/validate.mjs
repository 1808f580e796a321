// Reads a JSON list of Kubernetes objects and holds each against the published schema of its kind.
// Prints a JSON list of sentences, one for each thing that does not fit.
import { readFileSync } from "node:fs";

const PACKAGES = {
  "cert-manager.io": "cert-manager",
  "gateway.networking.k8s.io": "gateway-api",
  "keda.sh": "keda",
  "monitoring.coreos.com": "prometheus-operator",
};

// Schemas of custom resources take fields that they do not know, and clusters drop them without a
// word. A validator looks at every field that it knows: what it never looked at is a mistake.
function watched(value, path, unseen) {
  if (typeof value !== "object" || value === null) return value;
  const children = new Map();
  if (!Array.isArray(value)) {
    for (const key of Object.keys(value)) unseen.add(`${path}/${key}`);
  }
  return new Proxy(value, {
    get(target, key, receiver) {
      const child = Reflect.get(target, key, receiver);
      if (typeof key === "symbol") return child;
      unseen.delete(`${path}/${key}`);
      if (!children.has(key)) children.set(key, watched(child, `${path}/${key}`, unseen));
      return children.get(key);
    },
  });
}

async function problems(object) {
  const [group, version] = object.apiVersion.split("/");
  const name = `${object.kind} ${object.metadata.name}`;
  if (!(group in PACKAGES)) return [`${name}: no schema is known for ${object.apiVersion}`];
  let Model;
  try {
    const path = `@kubernetes-models/${PACKAGES[group]}/${group}/${version}/${object.kind}`;
    Model = (await import(path))[object.kind];
  } catch (error) {
    return [`${name}: ${object.apiVersion} has no such kind (${error.message.split("\n")[0]})`];
  }
  const unseen = new Set();
  const model = new Model(object);
  model.spec = watched(object.spec, "/spec", unseen);
  try {
    model.validate();
  } catch (error) {
    return [`${name}: ${error.message}`];
  }
  return [...unseen].map((path) => `${name}: ${path} is no field of ${object.apiVersion}`);
}

const objects = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify((await Promise.all(objects.map(problems))).flat()));
