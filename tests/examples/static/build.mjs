// Puts every page into the layout: pages/NAME.html becomes public/NAME.html.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";

const layout = readFileSync("layout.html", "utf8");
mkdirSync("public", { recursive: true });
for (const name of readdirSync("pages").sort()) {
  const page = readFileSync(`pages/${name}`, "utf8");
  writeFileSync(`public/${name}`, layout.replace("{{page}}", () => page.trim()));
}
