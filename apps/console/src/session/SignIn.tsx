import { Button, PasswordInput, Stack, Text, Title } from '@mantine/core';
import { type FormEvent, useEffect, useState } from 'react';
import { Wordmark } from '../Wordmark.tsx';
import { signIn } from './key.ts';
import classes from './SignIn.module.css';

export function SignIn({ refused }: { refused: boolean }) {
  const [key, setKey] = useState('');
  useEffect(() => {
    document.title = 'Sign in · Tuneloop';
  }, []);
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    if (key.trim() !== '') signIn(key);
  };
  return (
    <main className={classes.page}>
      <form className={classes.form} onSubmit={submit}>
        <Stack gap="lg">
          <Wordmark />
          <Stack gap={6}>
            <Title order={1} size="h2">
              Welcome
            </Title>
            <Text className="muted">
              {refused
                ? 'Your key does not work any more. Ask for a new link, or enter another key. Answers that were not sent yet are kept on this device.'
                : 'If you were sent a link, open it again. Otherwise enter the key you were given.'}
            </Text>
          </Stack>
          <PasswordInput
            label="Key"
            placeholder="tl_…"
            value={key}
            onChange={(event) => setKey(event.currentTarget.value)}
            error={refused ? 'This key was not accepted.' : undefined}
            autoComplete="off"
            autoFocus
            required
            withAsterisk={false}
            size="md"
            visibilityToggleButtonProps={{ 'aria-label': 'Show the key', tabIndex: 0 }}
          />
          <Button type="submit" size="md" fullWidth>
            Go on
          </Button>
        </Stack>
      </form>
    </main>
  );
}
