// Copies what tsc does not: files the dashboard serves to browsers.
import { cpSync, existsSync } from "node:fs";

if (existsSync("dashboard/public")) cpSync("dashboard/public", "dist/dashboard/public", { recursive: true });
