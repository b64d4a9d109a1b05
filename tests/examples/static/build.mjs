// Puts every page into the layout: pages/NAME.html becomes public/NAME.html.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

const layout = readFileSync("layout.html", "utf8");
const names = readdirSync("pages", { recursive: true }).filter((name) => name.endsWith(".html"));
for (const name of names.sort()) {
  mkdirSync(dirname(`public/${name}`), { recursive: true });
  const page = readFileSync(`pages/${name}`, "utf8");
  writeFileSync(`public/${name}`, layout.replace("{{page}}", () => page.trim()));
}
