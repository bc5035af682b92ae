import fastify from 'fastify';

/** Parses JSON, answers JSON, keeps nothing. */
const app = fastify();
app.post('/api/v1/feedback', async (_request, reply) => reply.status(201).send({ id: 'none' }));
const url = await app.listen({ host: '127.0.0.1', port: 0 });
process.send?.({ url });
process.once('disconnect', () => process.exit());
