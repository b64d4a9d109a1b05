// Makes ../css/utilities.css: a rule for each class `text-COLOUR` that a template of the shop uses.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import palette from "palette";

const shop = new URL("../../../../../../../", import.meta.url);
const templates = ["app/code/", "app/design/"]
  .flatMap((folder) => readdirSync(new URL(folder, shop), { recursive: true }).map((name) => folder + name))
  .filter((name) => name.endsWith(".phtml"))
  .sort();
const used = templates.flatMap((name) => readFileSync(new URL(name, shop), "utf8").match(/\btext-[a-z]+\b/g) ?? []);
const rules = [...new Set(used)].sort().map((name) => [name, palette[name.slice("text-".length)]]);
const lines = rules.filter(([, colour]) => colour).map(([name, colour]) => `.${name}{color:${colour}}\n`);

mkdirSync(new URL("../css/", import.meta.url), { recursive: true });
writeFileSync(new URL("../css/utilities.css", import.meta.url), lines.join(""));
