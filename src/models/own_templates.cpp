#include "models/own_templates.h"

#include "models/families.h"

namespace retort {

OwnTemplates own_templates(const LoadedModel& loaded) {
  OwnTemplates own{loaded.chat_template_source, loaded.other_templates};
  if (!own.text.empty() || !own.named.empty() || !loaded.tokenizer) return own;
  const auto* chat = find_chat_template(family_of(loaded.model->config).chat_template);
  if (chat && has_tokens_of(*chat, *loaded.tokenizer)) own.text = chat->name;
  return own;
}

}  // namespace retort
