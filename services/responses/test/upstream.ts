import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

export interface UpstreamRequest {
  readonly path: string;
  readonly authorization: string | undefined;
  readonly body: Record<string, unknown>;
}

/** A loopback server in OpenAI's protocol, as far as the tests go: it answers with the last message, upside down. */
export class LoopbackUpstream {
  readonly requests: UpstreamRequest[] = [];
  /** Set to answer every completion with this instead. */
  refuse: { status: number; error: Record<string, unknown> } | undefined;
  /** Set to hold an answer, or a stream after its first character, until the promise resolves. */
  hold: Promise<void> | undefined;
  /** Streams whose client went away before the end. */
  aborted = 0;
  readonly #server: Server;
  url = '';

  constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('no address');
    this.url = `http://127.0.0.1:${address.port}/v1`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '';
    if (path === '/v1/models') {
      json(response, 200, {
        object: 'list',
        data: [{ id: 'big-model', object: 'model', created: 1, owned_by: 'upstream' }],
      });
      return;
    }
    let text = '';
    for await (const chunk of request) text += String(chunk);
    const body: Record<string, unknown> = JSON.parse(text);
    this.requests.push({ path, authorization: request.headers.authorization, body });
    if (this.refuse) {
      json(response, this.refuse.status, { error: this.refuse.error });
      return;
    }
    const content = JSON.stringify(body.messages).split('').toReversed().join('').slice(0, 40);
    const head = { id: 'chatcmpl-theirs', created: 1, model: `${String(body.model)}-2026-01-01` };
    const usage = { prompt_tokens: 1000, completion_tokens: 500, total_tokens: 1500 };
    if (body.stream !== true) {
      await this.hold;
      const message = { role: 'assistant', content };
      json(response, 200, {
        ...head,
        object: 'chat.completion',
        choices: [{ index: 0, message, finish_reason: 'stop' }],
        usage,
      });
      return;
    }
    await this.#stream(response, head, content, usage);
  }

  async #stream(response: ServerResponse, head: object, content: string, usage: object): Promise<void> {
    response.on('close', () => {
      if (!response.writableEnded) this.aborted++;
    });
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const send = (choices: unknown[], more: object = {}): void => {
      response.write(`data: ${JSON.stringify({ ...head, object: 'chat.completion.chunk', choices, ...more })}\r\n\r\n`);
    };
    send([{ index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null }]);
    for (const [i, character] of content.split('').entries()) {
      send([{ index: 0, delta: { content: character }, finish_reason: null }]);
      if (i === 0) await this.hold;
    }
    send([{ index: 0, delta: {}, finish_reason: 'stop' }]);
    send([], { usage });
    response.end('data: [DONE]\n\n');
  }
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
