import { Anchor } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import { Notice } from './Notice.tsx';

export function NotFound() {
  return (
    <Notice
      title="There is nothing here"
      action={<Anchor renderRoot={(props) => <Link to="/review" {...props} />}>Go to the questions</Anchor>}
    >
      The address may be mistyped, or what it led to is gone.
    </Notice>
  );
}
