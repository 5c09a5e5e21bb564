// A conversation as a chat template in Jinja sees it: each message as JSON, and what may not get lost.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/chat.h"

namespace retort {

// The text as a JSON string; what is no UTF-8 is replaced.
std::string json_text(std::string_view text);

// A message as a JSON object. `thought_field`: where the template looks for thoughts; "" when it does in the
// content.
std::string json_of(const Message& message, std::string_view thought_field);

// Whether a template reads a member of this name of something.
bool reads_member(std::string_view source, std::string_view name);

// The member of a message in which the template looks for thoughts; "" when it reads none.
std::string_view field_of_thoughts(std::string_view source);

// What the conversation says beside its messages (Message::beside); "" when nothing.
std::string beside_of(const std::vector<Message>& messages);

// Whether system, user and assistant say words and nothing else, which any template can write.
bool plain_words(const std::vector<Message>& messages);

// RecipeError where the text that a template made has no trace of a message of a tool or a developer.
void require_there(const std::vector<Message>& messages, std::string_view text);

}  // namespace retort
