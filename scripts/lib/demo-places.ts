import type { DemoBerth } from "./demo-berth.ts";
import { SERVICE } from "./demo-manifest.ts";
import type { DemoScreen } from "./demo-screen.ts";

/** Prints where the demo runs, and commands to try. */
export function showPlaces(
  screen: DemoScreen,
  berth: DemoBerth,
  { url, logFile }: { url: string; logFile: string },
): void {
  screen.heading("Try it yourself");
  screen.line(`service         ${url}  (in a browser on this machine)`);
  screen.line(`API             ${berth.apiUrl}/v1/services`);
  screen.line(`documentation   ${berth.apiUrl}/docs`);
  screen.line(`job queues      ${berth.apiUrl}/ops/queues  (any user; password: the admin token)`);
  screen.line(`admin token     ${berth.adminToken}`);
  screen.line(`log             ${logFile}`);
  screen.line();
  screen.line("In another terminal, in this directory:");
  screen.command(`export BERTH_DATA_DIR=${berth.dataDir} PATH=$PWD/bin:$PATH`);
  for (const [command, what] of [
    ["berth get services", "list the services"],
    [`berth scale ${SERVICE} 4 --wait`, "scale the service"],
    [`berth get endpoints ${SERVICE} -f`, "follow the endpoints"],
    [`berth logs ${SERVICE}`, "print the logs"],
    [`berth explain ${SERVICE}`, "explain the state of its sets"],
    ["berth volume ls --trashed", "volumes of deleted sets, to restore or purge"],
    ["berth events -f", "follow the events"],
  ] as const) {
    screen.command(`${command.padEnd(32)} # ${what}`);
  }
  screen.line();
  screen.line("Ctrl-C removes everything.");
}
