import { defineConfig } from 'vitest/config'

/** What is polled for may take this long on a busy machine. */
const expect = { poll: { timeout: 10_000 } }

// unit: every push, no processes. e2e-short: real processes, still in `npm test`. e2e: the long form, by hand.
export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/e2e/**', 'test/hostile/**'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          expect,
        },
      },
      {
        test: {
          name: 'hostile',
          include: ['test/hostile/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          expect,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'e2e-short',
          include: ['test/e2e/short/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 60_000,
          expect,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/long/**/*.test.ts'],
          testTimeout: 1_200_000,
          hookTimeout: 60_000,
          expect,
          fileParallelism: false,
        },
      },
    ],
  },
})
