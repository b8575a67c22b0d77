// What lets Prisma 6.17.1 run without its downloaded engines: a driver adapter for all of it.
import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";

// The engine waits at its end for a limit of ten seconds that it has long kept.
const setTimeout = globalThis.setTimeout;
globalThis.setTimeout = (call, ms, ...given) => {
  const timer = setTimeout(call, ms, ...given);
  return ms >= 10_000 ? timer.unref() : timer;
};

const TEXT = 25;
const UNKNOWN_TO_THE_ADAPTER = new Set([18, 19]); // "char" and name, which the catalog has

const taught = (result) => {
  for (const field of result?.fields ?? []) {
    if (UNKNOWN_TO_THE_ADAPTER.has(field.dataTypeID)) field.dataTypeID = TEXT;
  }
  return result;
};

class Pool extends pg.Pool {
  async query(...given) {
    return taught(await super.query(...given));
  }

  connect(callback) {
    if (callback) return super.connect(callback);
    return super.connect().then((client) => {
      if (!client.taught) {
        const query = client.query.bind(client);
        client.query = async (...given) => taught(await query(...given));
        client.taught = true;
      }
      return client;
    });
  }
}

const opened = async (url) => {
  const pool = new Pool({ connectionString: url, idleTimeoutMillis: 100 });
  const adapter = await new PrismaPg(pool, { disposeExternalPool: true }).connect();
  // The adapter would cut a script at every semicolon, those in a block among them.
  adapter.executeScript = async (script) => {
    await pool.query(script).catch((error) => adapter.onError(error));
  };
  return adapter;
};

// By itself the adapter takes the main database for the shadow database.
export const factory = {
  provider: "postgres",
  adapterName: "@prisma/adapter-pg",
  connect: () => opened(process.env.DATABASE_URL),
  connectToShadowDb: async () => {
    const shadow = await opened(process.env.SHADOW_DATABASE_URL);
    await shadow.executeScript("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    return shadow;
  },
};
