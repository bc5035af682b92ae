import { freePort as findFreePort } from '@tuneloop/local/processes';

/** A TCP port on 127.0.0.1 that is free now. */
export const freePort = findFreePort;
