/** Settings that the command line reads from the environment; see src/config/cli.ts. */
export interface CliSettings {
  apiUrl: string | undefined;
  token: string | undefined;
  tokenFile: string | undefined;
  tenant: string | undefined;
  context: string | undefined;
  /** Of contexts. */
  configFile: string;
  /** Where an all-in-one Berth keeps its things. */
  dataDir: string;
}
