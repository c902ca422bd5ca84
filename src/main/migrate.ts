import { loadMigrateConfig } from "../config/migrate.ts";
import { migrate } from "../db/migrate.ts";
import { loadConfigOrExit } from "./compose/run-process.ts";

/** Brings the database to the schema of this build. Run it before the processes of a new release are started. */
const config = loadConfigOrExit(loadMigrateConfig);
await migrate(config.DATABASE_URL.reveal());
process.stdout.write("the database is at this build's schema\n");
