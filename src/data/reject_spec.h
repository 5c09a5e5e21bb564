// The `reject:` section of a data source: texts that somebody else generated are checked before they are
// learned.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "spec/fields.h"

namespace retort {

struct RejectSpec {
  std::string unless_answer = "", compare = "final";
  std::string unless_match = "", if_match = "";
  int64_t shorter_than = 1, longer_than = 0;
  std::string unless_finished = "";
  bool duplicates = true;
  int64_t answers_per_prompt = 0;
  std::vector<std::string> thoughts = {};

  template <class Visitor> void fields(Visitor& field) {
    field("unless_answer", unless_answer, any(),
          "the right answer, a text with {column} placeholders; records whose answer is another one are "
          "rejected");
    field("compare", compare, one_of({"final", "whole", "words"}),
          "how answers are compared: final = what stands in the last \\boxed{}, after ####, after 'answer "
          "is', or the last number, equal as formulas or numbers; whole = the whole "
          "text but for spaces at its ends; words = its words, without case, punctuation and articles");
    field("unless_match", unless_match, any(), "regular expression (PCRE2) that must be found in the answer");
    field("if_match", if_match, any(),
          "regular expression that must not be found in the answer, e.g. (?i)as an ai");
    field("shorter_than", shorter_than, at_least(1),
          "least characters of an answer; white space at its ends does not count");
    field("longer_than", longer_than, at_least(0), "most characters of an answer; 0 = any number");
    field("unless_finished", unless_finished, any(),
          "column that says why the answer ended, e.g. finish_reason; all but stop, stop_sequence, eos and "
          "end_turn are rejected");
    field("duplicates", duplicates, any(),
          "reject an answer that has the words of an earlier one to the same prompt");
    field("answers_per_prompt", answers_per_prompt, at_least(0),
          "most answers to one prompt that are kept, the first ones that pass; 0 = all");
    field(
        "thoughts", thoughts, any(),
        "what opens and what closes a thought in these answers, e.g. [<reason>, </reason>], where it is none "
        "of <think>, [THINK] and <seed:think>; thoughts are left out before unless_answer compares");
  }
};

}  // namespace retort
