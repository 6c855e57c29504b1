import { describe, expect, it } from 'vitest';
import { modelOfMarkedWords } from '../../support/marked-words.js';
import { TandemProcess } from './tandem-process.js';

const facts = 'Leo works as a baker. The access code of the red box is 4821.';
const question = `${facts}\nWhat is the access code of the red box?`;
const answer = 'The access code of the red box is 4821.';

async function generate(args: readonly string[], stdin?: string) {
  const run = new TandemProcess(['generate', ...args], stdin === undefined ? {} : { stdin });
  const code = await run.exit;
  return { code, stdout: run.stdout, stderr: run.stderr };
}

describe('tandem generate', () => {
  it('answers a prompt on standard output and nothing else', async () => {
    expect(await generate(['-p', question])).toEqual({ code: 0, stdout: `${answer}\n`, stderr: '' });
  });

  it('reads the prompt from standard input', async () => {
    expect((await generate([], `${question}\n`)).stdout).toBe(`${answer}\n`);
    expect((await generate(['-p', '-'], question)).stdout).toBe(`${answer}\n`);
  });

  it('ends the answer where it is told', async () => {
    expect((await generate(['-p', question, '--stop', ' red'])).stdout).toBe('The access code of the\n');
    expect((await generate(['-p', question, '--max-tokens', '2'])).stdout).toBe('The access\n');
  });

  it('continues a raw text without the template', async () => {
    const raw = `<|im_start|>user\n${question}<|im_end|>\n<|im_start|>assistant\nThe access`;
    expect((await generate(['--raw', '-p', raw])).stdout).toBe(' code of the red box is 4821.\n');
  });

  it('continues a raw text with a space where the tokenizer drops that of a text of its own', async () => {
    const folder = modelOfMarkedWords();
    const args = [folder.path, '--raw', '-p', 'The', '--temperature', '0', '--max-tokens', '1'];
    expect((await generate(args)).stdout).toMatch(/^ w\d+\n$/);
    folder.close();
  });

  it('talks, remembering the conversation until /clear', async () => {
    const turns = [
      `${facts} What is the access code of the red box?`,
      'What does Leo do?',
      '/clear',
      'Hello!',
      '/exit',
    ];
    const { code, stdout } = await generate(['--chat'], `${turns.join('\n')}\n`);
    expect(code).toBe(0);
    const [first, second, third] = stdout.split('\n');
    expect(first).toBe(answer);
    expect(second).toContain('baker');
    expect(third).toBe('Hello! How can I help you?');
  });

  it('gives the same answer to the same seed', async () => {
    const args = ['-p', 'Tell me a story about a dog.', '--temperature', '1', '--max-tokens', '40'];
    const [first, again] = await Promise.all([
      generate([...args, '--seed', '7']),
      generate([...args, '--seed', '7']),
    ]);
    expect(first.stdout.length).toBeGreaterThan(20);
    expect(again.stdout).toBe(first.stdout);
  });

  it('names what is wrong in a line and ends with 1', async () => {
    const [badFolder, badNumber, empty, both] = await Promise.all([
      generate(['/nowhere', '-p', 'x']),
      generate(['-p', 'x', '--temperature', '9']),
      generate([], ''),
      generate(['--chat', '-p', 'x']),
    ]);
    expect(badFolder).toMatchObject({
      code: 1,
      stdout: '',
      stderr: 'tandem: /nowhere: there is no such folder\n',
    });
    expect(badNumber).toMatchObject({ code: 1, stderr: expect.stringContaining('a number from 0 to 2') });
    expect(empty).toMatchObject({ code: 1, stderr: expect.stringContaining('standard input is empty') });
    expect(both).toMatchObject({ code: 1, stderr: expect.stringContaining('exclude each other') });
  });

  it('ends quietly when nobody reads its output', async () => {
    const run = new TandemProcess(['generate', '-p', 'Tell me a story about a dog.']);
    await run.until('stdout', /\w/);
    run.child.stdout.destroy();
    expect([0, 130]).toContain(await run.exit);
    expect(run.stderr).toBe('');
  });
});

describe('tandem doctor', () => {
  it('finds that the demo model can run here', async () => {
    const run = new TandemProcess(['doctor']);
    expect(await run.exit).toBe(0);
    expect(run.stdout).toMatch(/ok +model .*llama, 5\.3 million parameters, context 2048/);
    expect(run.stdout).toContain('Tandem can run here.');
  });

  it('fails and says why when the model cannot', async () => {
    const run = new TandemProcess(['doctor', '/nowhere']);
    expect(await run.exit).toBe(1);
    expect(run.stdout).toMatch(/PROBLEM model +\/nowhere: there is no such folder\n +-> /);
  });
});
