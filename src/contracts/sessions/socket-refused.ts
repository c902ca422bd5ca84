/** The server answered a request for a WebSocket with a status and a body. */
export class SocketRefused extends Error {
  override readonly name = "SocketRefused";
  readonly status: number;
  readonly body: string;

  constructor(status: number, body: string) {
    super(`the server refused the WebSocket with status ${status}`);
    this.status = status;
    this.body = body;
  }
}
