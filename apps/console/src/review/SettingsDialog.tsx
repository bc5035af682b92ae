import { Button, Kbd, SegmentedControl, Stack, Switch, Text, useMantineColorScheme } from '@mantine/core';
import { Dialog } from '../Dialog.tsx';
import { signOut } from '../session/key.ts';
import classes from './review.module.css';
import { WORDS } from './words.ts';

interface SettingsDialogProps {
  readonly opened: boolean;
  readonly shortcuts: boolean;
  /** Answers not sent yet: they stay on the device when signing out. */
  readonly unsent: number;
  readonly onShortcuts: (enabled: boolean) => void;
  readonly onClose: () => void;
}

export function SettingsDialog({ opened, shortcuts, unsent, onShortcuts, onClose }: SettingsDialogProps) {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <Dialog opened={opened} onClose={onClose} title="Settings and keys">
      <Stack gap="lg">
        <SegmentedControl
          fullWidth
          aria-label="Appearance"
          value={colorScheme}
          onChange={(value) => setColorScheme(value === 'light' || value === 'dark' ? value : 'auto')}
          data={[
            { value: 'auto', label: 'As the device' },
            { value: 'light', label: 'Light' },
            { value: 'dark', label: 'Dark' },
          ]}
        />
        <Switch
          label="Answer with keys"
          checked={shortcuts}
          onChange={(event) => onShortcuts(event.currentTarget.checked)}
        />
        <dl className={classes.keys}>
          {Object.entries(WORDS).map(([action, { label, keys }]) => (
            <div key={action}>
              <dt>{label}</dt>
              <dd>
                {keys.map((key) => (
                  <Kbd key={key}>{key}</Kbd>
                ))}
              </dd>
            </div>
          ))}
        </dl>
        <Text className="muted" size="sm">
          On a touch screen: swipe left for A, right for B.
        </Text>
        <Button variant="default" onClick={() => signOut()}>
          Sign out
        </Button>
        {unsent > 0 ? (
          <Text className="muted" size="sm">
            Answers still to be sent stay on this device until you come back with the same key.
          </Text>
        ) : null}
      </Stack>
    </Dialog>
  );
}
