import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type Docker from "dockerode";
import { findFreePort, startChildServer } from "./child-server.ts";
import { waitUntil } from "../wait-until.ts";

export interface ImageRegistry {
  /** Host and port, as in image references. */
  address: string;
  /** Pushes an image of the daemon, and removes the new reference from the daemon. */
  take(docker: Docker, reference: string): Promise<void>;
  /** From now on, the registry accepts only this login. It must have been started as private. */
  setLogin(login: RegistryLogin): Promise<void>;
  close(): Promise<void>;
}

export interface RegistryLogin {
  username: string;
  password: string;
  /** The bcrypt hash of the password, which Node cannot compute. */
  passwordHash: string;
}

/** Logins for private registries. Each password is long enough to be found in any output. */
export const registryLogins = {
  first: {
    username: "puller",
    password: "first-secret-of-the-test",
    passwordHash: "$2a$04$abcdefghijklmnopqrstuuYw9jKoqW2tUJ.WcTeV3zPUDQqODgGUW",
  },
  second: {
    username: "puller",
    password: "second-secret-of-the-test",
    passwordHash: "$2a$04$abcdefghijklmnopqrstuu5.avtw7Xlq2vHGb8lEsn97cgwhan0ke",
  },
} as const satisfies Record<string, RegistryLogin>;

/** An empty real registry. With a login it is private: it refuses anonymous pulls and pushes. */
export async function startImageRegistry(login?: RegistryLogin): Promise<ImageRegistry> {
  const directory = await mkdtemp(join(tmpdir(), "berth-registry-"));
  const address = `127.0.0.1:${await findFreePort()}`;
  const passwords = join(directory, "htpasswd");
  let current = login;
  const setLogin = async (next: RegistryLogin) => {
    current = next;
    await writeFile(passwords, `${next.username}:${next.passwordHash}\n`);
  };
  if (login) await setLogin(login);
  const config = {
    version: "0.1",
    storage: { filesystem: { rootdirectory: directory } },
    http: { addr: address },
    ...(login ? { auth: { htpasswd: { realm: "test", path: passwords } } } : {}),
  };
  await writeFile(join(directory, "config.yml"), JSON.stringify(config)); // JSON is YAML
  const server = startChildServer("docker-registry", ["serve", join(directory, "config.yml")]);
  const statusExpected = login ? 401 : 200;
  await waitUntil(
    "the registry answers",
    async () => (await fetch(`http://${address}/v2/`)).status === statusExpected,
  );
  return {
    address,
    setLogin,
    async take(docker, reference) {
      const image = docker.getImage(reference);
      const { username, password } = current ?? { username: "", password: "" };
      const progress = await image.push({
        authconfig: { serveraddress: address, username, password },
      });
      for await (const chunk of progress) {
        if (String(chunk).includes('"error"')) throw new Error(String(chunk));
      }
      await image.remove({ force: true });
    },
    async close() {
      await server.kill();
      await rm(directory, { recursive: true });
    },
  };
}
