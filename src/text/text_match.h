// How near an answer is to the expected one.
#pragma once
#include <string>
#include <string_view>

namespace retort {

// SQuAD's normalisation (arXiv:1606.05250): lower case, no punctuation, no articles, single spaces. Unlike
// there, an article is one only before a word and without a mark behind it: the answer "A" is the letter A.
std::string normalised_answer(std::string_view text);
// Over words of the normalised texts; in scripts without spaces over characters.
double token_f1(std::string_view expected, std::string_view got);
bool first_letter_equal(std::string_view expected, std::string_view got);
bool first_line_equal(std::string_view expected, std::string_view got);  // without white space at both ends
// Characters that agree from the start, as a share of the expected text: 2/3 for E11 against E12.
double prefix_share(std::string_view expected, std::string_view got);

}  // namespace retort
