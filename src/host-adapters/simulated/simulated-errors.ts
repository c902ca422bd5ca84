import { AgentError, IMAGE_MISSING } from "../../agent/base/agent-error.ts";

/** The engine lacks the image, and a pull may help. */
export function createImageMissing(image: string, containers: readonly string[]): AgentError {
  return new AgentError(IMAGE_MISSING, `image "${image}" is missing`, {
    phase: "image",
    temporary: true,
    containers,
  });
}

/** No registry has the image. */
export function createImageNotFound(image: string): AgentError {
  return new AgentError("image-not-found", `image "${image}" not found`, {
    phase: "image",
    temporary: false,
  });
}

export function createNotPrepared(setId: string): AgentError {
  return new AgentError("not-prepared", `${setId} is not prepared`, {
    phase: "start",
    temporary: true,
  });
}
