import type { Origin } from '../../loadtest/rows.js';

export const origin: Origin = {
  command: 'tandem bench serve --requests 3',
  commit: '0123456789ab',
  machine: 'a processor, 2 cores',
  date: '2026-11-24T12:00:00.000Z',
};
