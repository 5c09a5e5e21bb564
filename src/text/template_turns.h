// Renders the beginnings of a conversation along with the whole of it, as far as the whole's own run proves
// what they are.
//
// What is learned of a conversation asks for a rendering of its first messages for each answer. Most
// templates go through the messages in one loop, and what they write for the first k of them does not depend
// on what comes later: then the text so far, behind message k, and what the template writes at its end (the
// header of a reply) is the rendering of k messages. Values that note what is looked at (template_watch.h)
// say whether it was so in this run; where it was not, a beginning is rendered on its own as ever.
#pragma once
#include <jinja/runtime.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "text/template_facts.h"

namespace retort {

using TemplateParts = std::vector<jinja::string_part>;

struct Beginning {
  size_t messages;  // so many
  bool reply_header;
  std::optional<TemplateParts> parts = {};  // where the run proved them
};

class TemplateTurns {
 public:
  // Exchanges nodes of the program for ones that do the same and note it.
  explicit TemplateTurns(jinja::program& program);

  // Sets what a template is given beside add_generation_prompt.
  using Fill = std::function<void(jinja::context& context, const jinja::value& messages)>;

  // The rendering of all messages, and of what beginnings it can; nullopt where it fails: a run of its own
  // says why.
  std::optional<TemplateParts> run(const std::vector<jinja::value>& messages, bool reply_header,
                                   const Fill& fill, std::vector<Beginning>& beginnings) const;

  bool possible() const { return loop_ != nullptr; }

 private:
  class Run;
  const jinja::program& program_;
  size_t at_ = 0;                                       // of the loop in the program
  const jinja::for_statement* loop_ = nullptr;          // over the messages
  bool header_before_ = false, header_inside_ = false;  // whether the flag is read before the loop, in it
  bool again_ = false;                      // a turn of the loop leaves nothing behind: it may run twice
  std::set<std::string> names_, macros_;    // that have a value before the loop
  mutable uint64_t tried_ = 0, alike_ = 0;  // what stands before the loop, for fewer messages
};

// Appends them as the answer of the child writes them: neighbours of a kind are one. Their bytes.
uint64_t put_parts(const TemplateParts& parts, std::string& out);

}  // namespace retort
