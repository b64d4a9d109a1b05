// Makes the site: whatever ends up in public/ is what visitors get.
import { cpSync } from "node:fs";

cpSync("site", "public", { recursive: true });
