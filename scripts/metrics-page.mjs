// Writes docs/metrics.md from the catalogues; run it after a build. A test compares the page with what this would write.
import { writeFileSync } from "node:fs";
import { metricsPage } from "../dist/services/trainer/metrics-page.js";

writeFileSync(new URL("../docs/metrics.md", import.meta.url), metricsPage());
