import { demoImage } from "./demo-image.ts";

export const SERVICE = "demo-web";
export const REPLICAS_MIN = 2;
export const REPLICAS_MAX = 6;

/** The service of the demo, as a user would write it. */
export const manifest = [
  "# One small web server with its own volume and address. An HTTP check decides whether it is ready.",
  "# After the stop signal it serves for five seconds. Within them, new connections go to other sets.",
  `name: ${SERVICE}`,
  `replicas: ${REPLICAS_MIN}`,
  "template:",
  "  cpu: 0.1",
  "  memory: 64Mi",
  "  rootfs: 64Mi",
  "  networks: [{ network: default }]",
  "  ports: [{ name: http, port: 8080 }]",
  "  volume: { size: 32Mi, mountPath: /data }",
  "  containers:",
  "    - index: 0",
  "      name: web",
  `      image: ${demoImage}`,
  "      options:",
  "        cpu: 100",
  "        memory: 100",
  "        command: [/bin/sh, -c, \"echo hello from $(hostname) >/data/index.html; httpd -f -vv -p 8080 -h /data & trap 'sleep 5' TERM; wait\"]",
  "        health: { http: { port: 8080, path: / }, intervalSeconds: 1 }",
  "        stopTimeoutSeconds: 10",
  `autoscale: { min: ${REPLICAS_MIN}, max: ${REPLICAS_MAX}, scaleIn: { step: 2, everySeconds: 2 } }`,
  "",
].join("\n");
