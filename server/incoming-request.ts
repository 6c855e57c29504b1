import { IncomingMessage } from 'node:http';

/**
 * A request. Some clients ask with each whether the connection may go on in HTTP/2 (`Upgrade: h2c`; Java's do): they are
 * answered in HTTP/1.1 (RFC 9110, section 7.8), where Node would take any such request for the beginning of a WebSocket.
 */
export class IncomingRequest extends IncomingMessage {
  /** Node's constructor sets it, by way of `upgrade`. */
  declare private asksUpgrade: boolean | null;

  /** Node sets it when a request asks for another protocol, and asks for it when the headers are there. */
  get upgrade(): boolean {
    if (!this.asksUpgrade) return false;
    return this.method === 'CONNECT' || this.headers.upgrade?.toLowerCase() === 'websocket';
  }

  set upgrade(asks: boolean | null) {
    this.asksUpgrade = asks;
  }
}
