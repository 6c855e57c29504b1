import { afterAll, describe, expect, it } from 'vitest';
import { openChatTemplate } from '../../../engine/index.js';
import { modelFolder, refusal, removeFolders } from './model-folder.js';
import { haveSharedData, sharedJson, sharedPath, titled } from './shared-data.js';

afterAll(removeFolders);

/** Renderings by Python's Jinja2 3.1.6 with the settings of transformers, on this day. */
const day = () => new Date(2025, 0, 15);

interface Rendering {
  template_file: string;
  scenario: string;
  variables: { messages: never[]; add_generation_prompt: boolean; tools?: unknown[] };
  expected: string | null;
  error: string | null;
}

/** Where @huggingface/jinja or we differ, and why; a case that starts to agree fails, so that it is taken off. */
const differences: { file: string; scenarios: string[]; reason: string }[] = [
  {
    file: 'NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja',
    scenarios: ['single_user', 'system_multi_turn', 'no_generation_prompt', 'thinking_off'],
    reason:
      'the library does not loop over an undefined value; nor does Jinja2 over none, which transformers passes',
  },
  {
    file: 'NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja',
    scenarios: ['tools_offered', 'tool_round_trip'],
    reason: 'the library has no filters on undefined values',
  },
  {
    file: 'llama-cpp-deepseek-r1.jinja',
    scenarios: ['tools_offered', 'tool_round_trip'],
    reason: 'the library writes as JSON what Python refuses to',
  },
  {
    file: 'meetkai-functionary-medium-v3.1.jinja',
    scenarios: ['single_user', 'system_multi_turn', 'no_generation_prompt', 'thinking_off'],
    reason: 'the library does not filter none',
  },
  {
    file: 'meetkai-functionary-medium-v3.1.jinja',
    scenarios: ['tools_offered', 'tool_round_trip'],
    reason: 'bare Jinja2 escapes HTML in tojson; transformers and we do not',
  },
];

const differs = (file: string, scenario: string) =>
  differences.some((item) => item.file === file && item.scenarios.includes(scenario));

// The renderings were made without a variable `tools` where there are none; we pass none, as transformers does.
const withoutTools = { tools: undefined };

describe.skipIf(!haveSharedData)(titled('real chat templates'), () => {
  const cases = haveSharedData ? sharedJson<Rendering[]>('chat_templates/oracle_render.json') : [];
  const files = [...new Set(cases.map((item) => item.template_file))];

  it('are all there', () => {
    expect(cases).toHaveLength(168);
  });

  it.each(files)('%s renders as Jinja2 does', async (file) => {
    const folder = await modelFolder();
    const template = (await openChatTemplate(folder, sharedPath(`chat_templates/files/${file}`), day))!;
    for (const { scenario, variables, expected, error } of cases.filter(
      (item) => item.template_file === file,
    )) {
      const { messages, tools, add_generation_prompt, ...rest } = variables;
      const render = () =>
        template.render({
          messages,
          addGenerationPrompt: add_generation_prompt,
          ...(tools && { tools }),
          variables: { ...(!tools && withoutTools), ...rest },
        });
      const agrees = async () => {
        if (error !== null) await refusal(render, 'invalid_request');
        else expect(render()).toBe(expected);
      };
      if (differs(file, scenario)) await expect(agrees()).rejects.toThrow();
      else await agrees();
    }
  });
});

interface Input {
  messages?: never[];
  add_generation_prompt?: boolean;
  tools?: unknown[];
}

/** Some have the input in `variables`, some beside the rest. */
interface Published extends Input {
  name: string;
  template: string;
  variables?: Input;
  expected: string;
  jinja2_3_1_6: 'equal' | 'differs';
}

describe.skipIf(!haveSharedData)(titled('published renderings'), () => {
  it.each([
    ['jinja_chat.json', 25],
    ['llamacpp_chat.json', 14],
  ])('those of %s that Jinja2 agrees with: %i', async (file, count) => {
    const equal = sharedJson<Published[]>(`chat_templates/${file}`).filter(
      (item) => item.jinja2_3_1_6 === 'equal',
    );
    expect(equal).toHaveLength(count);
    for (const { name, template, expected, ...item } of equal) {
      const input: Input = item.variables ?? item;
      const { messages, tools, add_generation_prompt, ...variables } = input;
      const opened = (await openChatTemplate(
        await modelFolder({ 'chat_template.jinja': template }),
        undefined,
        day,
      ))!;
      const text = opened.render({
        messages: messages ?? [],
        addGenerationPrompt: add_generation_prompt ?? false,
        ...(tools && { tools }),
        variables: { ...(!tools && withoutTools), ...variables },
      });
      expect({ name, text }).toEqual({ name, text: expected });
    }
  });
});
