import type { WebSocket } from 'ws';
import type { Service } from '../service.js';
import { SocketLink } from '../socket-link.js';
import type { LiveFeed } from './live-feed.js';

/** A socket of `WS /debug/live`. One that is read too slowly misses samples. */
export class LiveSocket {
  constructor(socket: WebSocket, service: Service, feed: LiveFeed) {
    const link = new SocketLink(socket, service, {
      onFrame: () => {},
      onBinary: () => {},
      onBlocked: () => {},
      onDrained: () => link.send(feed.hello()),
      onClose: () => stop(),
    });
    const stop = feed.watch((frame) => {
      if (!link.isBlocked) link.send(frame);
    });
  }
}
