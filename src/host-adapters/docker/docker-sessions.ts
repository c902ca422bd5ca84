import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import type { ExecPort } from "../../agent/ports/exec-port.ts";
import type { SessionOutput, SessionProcess } from "../../agent/ports/session-port.ts";
import { AgentError } from "../../agent/base/agent-error.ts";
import { callDocker } from "./call-docker.ts";
import { separateStreams } from "./demultiplex.ts";
import { killProbeProcesses, signalProgram } from "./probe-processes.ts";

const setup = { phase: "run" as const, timeoutMs: 10_000 };
/** Docker knows the size of a terminal only a moment after the start. */
const RESIZE_ATTEMPTS_MAX = 6;
const RESIZE_PAUSE_MS = 50;
/** A program has this long to end after a hangup, before it is killed. */
const HANGUP_MS = 2_000;
const POLL_MS = 50;
/** The exit code is there a moment after the end of the output. */
const EXIT_TIMEOUT_MS = 10_000;

/** ExecPort on Docker, API 1.41 and newer. */
export function createDockerExecs(docker: Docker): ExecPort {
  return {
    async exec({ dockerId, listProcesses }, options, signal) {
      const { command, tty, stdin, user, env = {}, sessionId } = options;
      const exec = await callDocker(setup, signal, (abortSignal) =>
        docker.getContainer(dockerId).exec({
          Cmd: [...command],
          AttachStdin: stdin,
          AttachStdout: true,
          AttachStderr: true,
          Tty: tty,
          Env: [
            ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
            `BERTH_SESSION=${sessionId}`,
          ],
          ...(user === undefined ? {} : { User: user }),
          abortSignal,
        }),
      );
      const stream = await callDocker(setup, signal, () =>
        exec.start({ hijack: true, stdin, Tty: tty, Detach: false }),
      );
      const process = new DockerExec(exec, stream, { tty, listProcesses });
      const { cols, rows } = options;
      if (tty && cols !== undefined && rows !== undefined) {
        void process.resize({ cols, rows }).catch(() => undefined); // it has ended
      }
      return process;
    },
    async attach(dockerId, signal) {
      const container = docker.getContainer(dockerId);
      const stream = await callDocker(setup, signal, () =>
        container.attach({ stream: true, stdout: true, stderr: true, stdin: false, hijack: true }),
      );
      return new AttachedProcess(container, stream as unknown as Duplex);
    },
  };
}

interface DockerExecOptions {
  tty: boolean;
  listProcesses: () => Promise<readonly number[]>;
}

class DockerExec implements SessionProcess {
  readonly output: AsyncIterable<SessionOutput>;
  readonly #exec: Docker.Exec;
  readonly #stream: Duplex;
  readonly #options: DockerExecOptions;
  #code: number | undefined;
  #ended: Promise<void> | undefined;

  constructor(exec: Docker.Exec, stream: Duplex, options: DockerExecOptions) {
    this.#exec = exec;
    this.#stream = stream;
    this.#options = options;
    this.output = options.tty ? readTerminal(stream) : separateStreams(stream);
    stream.on("error", () => undefined); // its reader and its writers get the error
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#stream.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }

  endInput(): void {
    this.#stream.end();
  }

  async resize({ cols, rows }: { cols: number; rows: number }): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#exec.resize({ w: cols, h: rows });
        return;
      } catch (error) {
        if (attempt === RESIZE_ATTEMPTS_MAX || this.#stream.destroyed) throw error;
        await delay(RESIZE_PAUSE_MS);
      }
    }
  }

  async sendSignal(name: string): Promise<void> {
    const { Pid } = await this.#inspect();
    await signalProgram(Pid, `SIG${name}` as NodeJS.Signals, this.#options.listProcesses);
  }

  async exitCode(): Promise<number> {
    const endsAtMs = performance.now() + EXIT_TIMEOUT_MS;
    for (;;) {
      const { Running, ExitCode } = await this.#inspect();
      if (!Running) {
        this.#code = ExitCode ?? 0;
        return this.#code;
      }
      // A program may close its output and continue.
      if (performance.now() > endsAtMs) throw withoutExit();
      await delay(POLL_MS);
    }
  }

  end(): Promise<void> {
    this.#stream.destroy();
    this.#ended ??= this.#code === undefined ? this.#kill() : Promise.resolve();
    return this.#ended;
  }

  async #kill(): Promise<void> {
    const { listProcesses } = this.#options;
    const { Running, Pid } = await this.#inspect();
    if (!Running) return;
    await signalProgram(Pid, "SIGHUP", listProcesses);
    const endsAtMs = performance.now() + HANGUP_MS;
    while (performance.now() < endsAtMs) {
      await delay(POLL_MS);
      if (!(await this.#inspect()).Running) return;
    }
    await killProbeProcesses(Pid, listProcesses);
  }

  #inspect(): Promise<Docker.ExecInspectInfo> {
    return callDocker(setup, new AbortController().signal, () => this.#exec.inspect());
  }
}

/** The output of a container's main process. */
class AttachedProcess implements SessionProcess {
  readonly output: AsyncIterable<SessionOutput>;
  readonly #container: Docker.Container;
  readonly #stream: Duplex;

  constructor(container: Docker.Container, stream: Duplex) {
    this.#container = container;
    this.#stream = stream;
    this.output = separateStreams(stream);
    stream.on("error", () => undefined); // its reader gets the error
  }

  async write(): Promise<void> {
    // The main process of a container has no input.
  }

  endInput(): void {
    // The same.
  }

  async resize(): Promise<void> {
    // It has no terminal.
  }

  async sendSignal(): Promise<void> {
    // Stop and restart are orders of the control plane.
  }

  async exitCode(): Promise<number> {
    const { State } = await callDocker(setup, new AbortController().signal, () =>
      this.#container.inspect(),
    );
    if (State.Running) throw withoutExit();
    return State.ExitCode;
  }

  async end(): Promise<void> {
    this.#stream.destroy();
  }
}

async function* readTerminal(stream: AsyncIterable<unknown>): AsyncGenerator<SessionOutput> {
  for await (const piece of stream) yield { stream: "stdout", bytes: piece as Buffer };
}

function withoutExit(): AgentError {
  return new AgentError("output-ended", "The output ended, but the program still runs.", {
    phase: "run",
    temporary: true,
  });
}
