// A chat template in Jinja as pieces: what is control, what is text, and which of it is whose answer.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/chat.h"

namespace retort {

// A template for any text. `built_in`, unless it is nullptr, renders what it can: it equals the text. The
// token that ends an answer is found by rendering one. RecipeError for a text that cannot be read.
ChatTemplate jinja_chat_template(std::string source, const Tokenizer& tokenizer,
                                 const ChatTemplate* built_in = nullptr);

// The text with these switches set where nobody else sets them: what renders so here renders so for all.
std::string with_arguments(std::string_view source,
                           const std::vector<std::pair<std::string, std::string>>& arguments);

}  // namespace retort
