/** Settings that the command line reads from the environment; see src/config/cli.ts. */
export interface CliSettings {
  apiUrl: string | undefined;
  token: string | undefined;
  tokenFile: string | undefined;
  tenant: string | undefined;
  context: string | undefined;
  /** The file of the contexts. */
  configFile: string;
  /** The directory where an all-in-one Berth stores its data. */
  dataDir: string;
}
