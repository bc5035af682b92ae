import { createTheme, type CSSVariablesResolver, type MantineColorsTuple } from '@mantine/core';

/** A deep, quiet green; shade 8 holds 4.5:1 on the light page and as a ground for white text, shade 3 on the dark one. */
const pine: MantineColorsTuple = [
  '#eef8f5',
  '#dcefe9',
  '#b5ded2',
  '#7fcab8',
  '#52b39d',
  '#2c9a84',
  '#18826e',
  '#0f7362',
  '#0c6454',
  '#084a3e',
];

export const theme = createTheme({
  primaryColor: 'pine',
  primaryShade: { light: 8, dark: 4 },
  autoContrast: true,
  luminanceThreshold: 0.32,
  colors: { pine },
  fontFamily: "'Inter Variable', system-ui, sans-serif",
  fontFamilyMonospace: 'ui-monospace, SFMono-Regular, Menlo, monospace',
  headings: { fontFamily: "'Source Serif 4 Variable', Georgia, serif", fontWeight: '500' },
  defaultRadius: 'md',
  radius: { md: '10px', lg: '16px' },
  cursorType: 'pointer',
  respectReducedMotion: true,
});

/** Grounds and inks of both schemes; every ink holds 4.5:1 on every ground of its scheme, lines 3:1 where they bound a control. */
export const colours: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    '--mantine-color-body': '#f8f7f4',
    '--mantine-color-text': '#1d1c1a',
    '--mantine-color-error': '#b42318',
    '--mantine-color-placeholder': '#6f6a62',
    '--mantine-color-default-color': '#1d1c1a',
    '--mantine-color-default-border': '#b9b4aa',
    '--tl-surface': '#ffffff',
    '--tl-sunken': '#f0eee9',
    '--tl-muted': '#5e5a53',
    '--tl-line': '#e3e0d9',
    '--tl-control': '#8b867c',
    '--tl-accent': '#0c6454',
    '--tl-accent-soft': '#e6f3ef',
  },
  dark: {
    '--mantine-color-body': '#161513',
    '--mantine-color-text': '#eceae5',
    '--mantine-color-error': '#ff9a8c',
    '--mantine-color-placeholder': '#9a958b',
    '--mantine-color-default': '#201f1c',
    '--mantine-color-default-color': '#eceae5',
    '--mantine-color-default-hover': '#2a2926',
    '--mantine-color-default-border': '#57534b',
    '--tl-surface': '#201f1c',
    '--tl-sunken': '#11100f',
    '--tl-muted': '#aaa59b',
    '--tl-line': '#34322e',
    '--tl-control': '#7b766d',
    '--tl-accent': '#7fcab8',
    '--tl-accent-soft': '#1d312c',
  },
});
