import Docker from "dockerode";
import { expect, it } from "vitest";
import { baseImage, ensureDocker } from "../support/docker/docker.ts";
import { waitUntil } from "../support/wait-until.ts";

it("a container of the base image answers HTTP on its bridge address", async () => {
  const docker = new Docker();
  const serve = "mkdir -p /www && echo hello > /www/index.html && httpd -f -p 8080 -h /www";
  const container = await docker.createContainer({
    Image: baseImage,
    Cmd: ["sh", "-c", serve],
    Labels: { "berth.test": "base-image" },
  });
  try {
    await container.start();
    const address = (await container.inspect()).NetworkSettings.Networks["bridge"]?.IPAddress;
    const answer = await waitUntil("the container answers", async () => {
      const response = await fetch(`http://${address}:8080/index.html`);
      return response.text();
    });
    expect(answer).toBe("hello\n");
  } finally {
    await container.remove({ force: true });
  }
});

it("importing the base image again changes nothing", async () => {
  const image = new Docker().getImage(baseImage);
  const before = await image.inspect();
  await ensureDocker();
  expect((await image.inspect()).Id).toBe(before.Id);
});
