// The container's health: whether its own service says that it is ready.
const TIMEOUT_MS = 5_000;

try {
  const response = await fetch(`http://127.0.0.1:${process.env.PORT ?? 8080}/readyz`, {
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  process.stdout.write(`${await response.text()}\n`);
  process.exitCode = response.ok ? 0 : 1;
} catch (error) {
  process.stdout.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
