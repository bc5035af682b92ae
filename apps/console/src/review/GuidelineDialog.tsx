import { Text } from '@mantine/core';
import { Dialog } from '../Dialog.tsx';

interface GuidelineDialogProps {
  readonly opened: boolean;
  readonly text: string | undefined;
  readonly onClose: () => void;
}

export function GuidelineDialog({ opened, text, onClose }: GuidelineDialogProps) {
  return (
    <Dialog opened={opened} onClose={onClose} title="What to look for">
      <Text style={{ whiteSpace: 'pre-wrap' }}>{text}</Text>
      <Text className="muted" size="sm" mt="md">
        You are not told where an answer comes from, and A and B change places at random: only what you read counts.
      </Text>
    </Dialog>
  );
}
