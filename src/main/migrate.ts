import { loadMigrateConfig } from "../config/migrate.ts";
import { migrate } from "../db/migrate.ts";
import { loadConfigOrExit } from "./compose/run-process.ts";

/**
 * Migrates the database to the schema of this build. Run it before you start the processes of a new
 * release. With `--restored`, it also completes the restore of any backup.
 */
const config = loadConfigOrExit(loadMigrateConfig);
await migrate(config.DATABASE_URL.reveal(), { isRestored: process.argv.includes("--restored") });
process.stdout.write("the database has this build's schema\n");
