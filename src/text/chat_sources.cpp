// Jinja texts of the templates that a recipe may name for a model which has none of its own, or another: what
// an export carries, so that others ask the model as it was trained. Each renders as its family does here;
// none has tool calls.
#include "text/chat.h"

namespace retort {
namespace {

struct Source {
  std::string_view name;
  std::string jinja;
};

const std::vector<Source>& sources() {
  static const std::string turns =
      "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
      "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% "
      "endif %}";
  static const std::vector<Source> table = {
      {"chatml", turns},
      {"smollm2",  // the released text
       "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
       "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
       "Face<|im_end|>\n' "
       "}}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
       "'\n'}}{% "
       "endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"},
      {"qwen2",
       "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful "
       "assistant.<|im_end|>\n' }}{% endif %}" +
           turns},
      {"qwen2.5",
       "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Qwen, created by Alibaba "
       "Cloud. "
       "You are a helpful assistant.<|im_end|>\n' }}{% endif %}" +
           turns},
      {"llama2",
       "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set system = '<<SYS>>\n' + "
       "messages[0]['content'] + '\n<</SYS>>\n\n' %}{% else %}{% set turns = messages %}{% set system = '' "
       "%}{% endif %}{% for message in turns %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + "
       "((system if loop.first else '') + message['content']).strip() + ' [/INST]' }}{% else %}{{ ' ' + "
       "message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"},
      {"llama3",
       "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
       "'<|end_header_id|>\n\n' + message['content'].strip() + '<|eot_id|>' }}{% endfor %}{% if "
       "add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"},
      {"gemma",
       "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not "
       "supported') "
       "}}{% endif %}{% for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == "
       "'assistant' else 'user') + '\n' + message['content'].strip() + '<end_of_turn>\n' }}{% endfor %}{% if "
       "add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"},
      {"gemma3",
       "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first_user_prefix = "
       "messages[0]['content'] + '\n\n' %}{% set turns = messages[1:] %}{% else %}{% set first_user_prefix = "
       "'' "
       "%}{% set turns = messages %}{% endif %}{% for message in turns %}{{ '<start_of_turn>' + ('model' if "
       "message['role'] == 'assistant' else 'user') + '\n' + (first_user_prefix if loop.first else '') + "
       "message['content'].strip() + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
       "'<start_of_turn>model\n' }}{% endif %}"},
      {"phi3",
       "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' "
       "}}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif "
       "%}"},
      {"plain",
       "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}{{ "
       "message['content'] + eos_token }}{% else %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"},
      {"alpaca",
       "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\n\n' }}{% set "
       "turns = messages[1:] %}{% else %}{{ 'Below is an instruction that describes a task. Write a response "
       "that appropriately completes the request.\n\n' }}{% set turns = messages %}{% endif %}{% for message "
       "in "
       "turns %}{% if message['role'] == 'assistant' %}{{ '### Response:\n' + message['content'] + eos_token "
       "+ "
       "'\n\n' }}{% else %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}{% endif %}{% endfor %}{% "
       "if "
       "add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"},
  };
  return table;
}

// Of plain and alpaca, which begin with BOS only where the tokenizer's own convention does.
std::string_view without_bos(const Source& source) {
  constexpr std::string_view kBos = "{{ bos_token }}";
  const bool own = source.name == "plain" || source.name == "alpaca";
  const std::string_view jinja = source.jinja;
  return own && jinja.starts_with(kBos) ? jinja.substr(kBos.size()) : jinja;
}

}  // namespace

std::string_view chat_template_source(std::string_view name, bool begins_with_bos) {
  for (const auto& source : sources())
    if (source.name == name) return begins_with_bos ? std::string_view(source.jinja) : without_bos(source);
  return "";
}

const ChatTemplate* chat_template_of_ours(std::string_view jinja_source) {
  for (const auto& source : sources())
    if (source.jinja == jinja_source || without_bos(source) == jinja_source)
      return find_chat_template(source.name);
  return nullptr;
}

}  // namespace retort
