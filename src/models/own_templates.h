// The chat templates that a model's files bring.
#pragma once
#include "models/model.h"
#include "text/chat.h"

namespace retort {

// Its texts, or the name of the built-in template of a family whose models bring an encoder of their own
// (DeepSeek V3.2) and whose control tokens this one's tokenizer has. They live as long as `loaded`.
OwnTemplates own_templates(const LoadedModel& loaded);

}  // namespace retort
