import { defineConfig } from "prisma/config";
import { factory } from "./adapter.mjs";

export default defineConfig({
  experimental: { adapter: true },
  schema: "prisma/schema.prisma",
  adapter: async () => factory,
});
