// The table of the built-in chat templates.
#include "text/chat.h"

#include <algorithm>

#include "base/error.h"
#include "base/hash.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

// sha256 of the jinja text that released checkpoints carry in tokenizer_config.json or
// tokenizer.chat_template.
struct KnownSource {
  std::string_view sha256, name;
};
constexpr KnownSource kKnownSources[] = {
    {"872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788", "smollm2"},  // SmolLM2-135M-Instruct
    {"ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122",
     "llama3"},  // Meta-Llama-3-8B-Instruct
    {"e10ca381b1ccc5cf9db52e371f3b6651576caee0a630b452e2816b2d404d4b65",
     "llama3.1"},  // Llama-3.1-8B-Instruct
    {"5816fce10444e03c2e9ee1ef8a4a1ea61ae7e69e438613f3b17b69d0426223a4",
     "llama3.1"},  // Llama-3.2-1B-Instruct
    {"26a59556925c987317ce5291811ba3b7f32ec4c647c400c6cc7e3a9993007ba7",
     "mistral-v1"},  // Mistral-7B-Instruct-v0.2, first text
    {"796853172235ab3aaa4810013ddfe2eab481bda3306dad4f700c00d436eed596",
     "mistral-v1"},  // Mistral-7B-Instruct-v0.2
    {"3c4ad5fa60dd8c7ccdf82fa4225864c903e107728fcaf859fa6052cb80c92ee9",
     "mistral-v7"},  // Mistral-Large-Instruct-2411
    {"cd8e9439f0570856fd70470bf8889ebd8b5d1107207f67a5efb46e342330527f", "qwen2.5"},  // Qwen2.5-7B-Instruct
    {"a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8", "qwen3"},    // Qwen3-8B
    {"64f85b198065d0fba2a81f37e10ed68161ce2c19a754c7100e67e0ca2ee9c326", "chatml"},  // Qwen3-4B-Instruct-2507
    {"ecd6ae513fe103f0eb62e8ab5bfa8d0fe45c1074fa398b089c93a7e70c15cfd6", "gemma"},   // gemma-2-2b-it
    {"7de1c58e208eda46e9c7f86397df37ec49883aeece39fb961e0a6b24088dd3c4", "gemma3"},  // gemma-3-1b-it
    {"dcaee66df77bfbb789ec541fe713218da30225a526f1db97138fc39ee6dc56aa", "phi3"},    // Phi-3-mini-4k-instruct
    {"78d976a442bcde2f0be15aafbb8e3050e1104f86732266f68403251b89982a90", "phi3"},    // Phi-3.5-mini-instruct
    {"563b1ce7d61d50a9b4c7439a912a1116f095b712df5b5e4d3e1116049874eb64",
     "deepseek-r1"},  // DeepSeek-V3 as revised for R1
    {"56a1447ad31926fdc21fb07e56e5642bd9c850c4f52d8c8af7bbe5f079a84f5f",
     "deepseek-r1"},  // DeepSeek-R1-Distill
};

}  // namespace

const std::vector<ChatTemplate>& chat_templates() {
  static const std::vector<ChatTemplate> table = {
      {"chatml",
       "<|im_start|>role, text, <|im_end|>; no system message of its own",
       render_chatml,
       {"<|im_end|>"}},
      {"smollm2", "ChatML with SmolLM2's default system message", render_smollm2, {"<|im_end|>"}},
      {"qwen2", "ChatML with Qwen2's default system message", render_qwen2, {"<|im_end|>", "<|endoftext|>"}},
      {"qwen2.5",
       "ChatML with Qwen2.5's default system message",
       render_qwen25,
       {"<|im_end|>", "<|endoftext|>"}},
      {"qwen3",
       "ChatML; replies begin with an empty <think> block (thinking off)",
       render_qwen3,
       {"<|im_end|>", "<|endoftext|>"}},
      {"qwen3-thinking",
       "ChatML; the model writes its <think> block itself",
       render_qwen3_thinking,
       {"<|im_end|>", "<|endoftext|>"}},
      {"llama2", "[INST] with <<SYS>>, BOS in each turn", render_llama2, {"</s>"}},
      {"llama3",
       "<|start_header_id|>role<|end_header_id|>, <|eot_id|>",
       render_llama3,
       {"<|eot_id|>", "<|end_of_text|>"}},
      {"llama3.1",
       "Llama 3 with the dated system block of 3.1 to 3.3 (date fixed: 26 Jul 2024)",
       render_llama31,
       {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"}},
      {"mistral-v1",
       "' [INST] ' as plain text; system text in the first user turn",
       render_mistral_v1,
       {"</s>"}},
      {"mistral-v3",
       "[INST] tokens with spaces; system text in the last user turn",
       render_mistral_v3,
       {"</s>"}},
      {"mistral-v3-tekken",
       "[INST] tokens without spaces; system text in the last user turn",
       render_mistral_v3_tekken,
       {"</s>"}},
      {"mistral-v7", "as v3 with [SYSTEM_PROMPT]", render_mistral_v7, {"</s>"}},
      {"gemma",
       "Gemma 1 and 2: <start_of_turn>user/model, no system message",
       render_gemma,
       {"<end_of_turn>", "<eos>"}},
      {"gemma3",
       "Gemma 3: as Gemma, the system text begins the first user turn",
       render_gemma3,
       {"<end_of_turn>", "<eos>"}},
      {"phi3", "<|user|>, <|assistant|>, <|end|>", render_phi3, {"<|end|>", "<|endoftext|>"}},
      {"deepseek-v3",
       "<｜User｜>, <｜Assistant｜>; thoughts of earlier turns are dropped",
       render_deepseek_v3,
       {"<｜end▁of▁sentence｜>"}},
      {"deepseek-r1",
       "as deepseek-v3; replies begin with <think>, the last answer keeps its thought",
       render_deepseek_r1,
       {"<｜end▁of▁sentence｜>"}},
      {"deepseek-v3.2",
       "V3.2's own encoding with thinking off; tools, their calls and results",
       render_deepseek_v32,
       {"<｜end▁of▁sentence｜>"}},
      {"deepseek-v3.2-thinking",
       "as deepseek-v3.2; replies begin with <think>, thoughts before the last question are dropped",
       render_deepseek_v32_thinking,
       {"<｜end▁of▁sentence｜>"}},
      {"deepseek-v4",
       "V4's own encoding with thinking off; tools, their calls and results, tasks",
       render_deepseek_v4,
       {"<｜end▁of▁sentence｜>"}},
      {"deepseek-v4-thinking",
       "as deepseek-v4; replies begin with <think>, with tools all thoughts stay",
       render_deepseek_v4_thinking,
       {"<｜end▁of▁sentence｜>"}},
      {"plain", "prompt, blank line, answer, EOS: for base models", render_plain, {}},
      {"alpaca", "### Instruction: / ### Response: blocks: for base models", render_alpaca, {}},
  };
  return table;
}

const ChatTemplate* find_chat_template(std::string_view name) {
  if (name == "gemma2") name = "gemma";  // the two ship the same text
  const auto& table = chat_templates();
  const auto found =
      std::find_if(table.begin(), table.end(), [&](const auto& entry) { return entry.name == name; });
  return found == table.end() ? nullptr : &*found;
}

const ChatTemplate* chat_template_by_source(std::string_view jinja_source) {
  if (const auto* ours = chat_template_of_ours(jinja_source)) return ours;
  const auto hash = sha256(jinja_source);
  for (const auto& known : kKnownSources)
    if (known.sha256 == hash) return find_chat_template(known.name);
  return nullptr;
}

}  // namespace retort
