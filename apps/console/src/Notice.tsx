import { Stack, Text, Title } from '@mantine/core';
import type { ReactNode } from 'react';

/** A whole page that says one thing: nothing to do, nothing found, something is wrong. */
export function Notice({ title, children, action }: { title: string; children: ReactNode; action?: ReactNode }) {
  return (
    <Stack component="main" className="notice" align="center" justify="center" gap="md" p="xl">
      <Title order={1} size="h2" ta="center">
        {title}
      </Title>
      <Text component="div" className="muted" ta="center" maw="34rem">
        {children}
      </Text>
      {action}
    </Stack>
  );
}
