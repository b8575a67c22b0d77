// What the application asks of its own client: entries by category.
import { PrismaClient } from "./client/index.js";
import { factory } from "./adapter.mjs";

const prisma = new PrismaClient({ adapter: factory });
const counted = await prisma.llamaLog.groupBy({ by: ["category"], _count: { _all: true } });
console.log(JSON.stringify(Object.fromEntries(counted.map((one) => [one.category, one._count._all]))));
await prisma.$disconnect();
