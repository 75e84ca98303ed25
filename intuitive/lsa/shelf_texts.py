"""Texts for the lesson's shelves: each has a reason to come back to what it said long before.

In "The letter" a letter is read again at the end, and SmolLM2 writes it itself. In "The lease" and
in a chapter of Alice the decoded part is given. None of them was trained on: the first two were
written for this lesson, the third is of a held-out file.
"""

import functools
import re
from dataclasses import dataclass

from intuitive.common import corpus


@dataclass(frozen=True)
class ShelfText:
    """A prompt, and how it goes on."""

    name: str
    prompt: str
    parts: tuple[tuple[str, str], ...]  # titles and texts of the decoded part, if it is given
    n_new: int = 0  # tokens that the model writes itself, where it is not

    @property
    def given(self) -> bool:
        """Whether the decoded part is given."""
        return bool(self.parts)


def _paragraphs(text: str) -> str:
    """The text with each paragraph on one line."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text.strip())


# ---------------------------------------------------------------------------------- the letter

LETTER = _paragraphs("""
Dear Martha,

By the time you read this I shall be on the night train to Lisbon, and the house will be yours to
look after. The key to the boathouse hangs behind the kitchen clock. Please feed the grey cat in
the morning and never after dark, for she follows whoever feeds her, and the marsh is no place for
a cat at night.

In the blue trunk under the stairs there are eleven maps. Ten of them are of no use to anybody. The
eleventh shows the sandbank as it was before the great storm, and you must not let Captain Orrin
see it, whatever he offers you. Should he come, give him tea, talk about the weather, and send me
a telegram that says only: the heron has landed.

I shall be back when the pear tree blooms.

Your uncle, Tobias
""")

_STORY = _paragraphs("""
The house on the marsh

When Martha came down to breakfast on the second of November, her uncle's chair was empty and his
coat was gone from its hook. On the table, leaning against the teapot, stood a letter with her name
on it. She sat down, broke the seal and read:

{letter}

Martha read it twice. Then she put the letter into the pocket of her apron and went to look behind
the kitchen clock.

For three weeks nothing happened at all. The rain came in from the sea every afternoon at about
four, as if it kept office hours, and drummed upon the roof until supper. Martha mended the
curtains in the dining room. She baked bread on Tuesdays and Saturdays, and each time she gave the
heel of the loaf to old Mrs. Pell, who lived in the lighthouse cottage and had not spoken to the
postman since the year of the comet. The two women played cards by the window, a game called Poor
Jack of which only Mrs. Pell knew all the rules, and new rules appeared whenever she was about to
lose.

The postman himself was a thin young man named Edwin Sparrow, who wished to become an engineer. He
had built a machine out of bicycle parts that could peel an apple in a single ribbon, and another
that was meant to turn the pages of a hymn book, though it had once torn a whole psalm out of the
vicar's copy. He always stopped at the gate, took off his cap, and told Martha what was new in the
village: that the baker's twins had the measles, that someone had painted the pump green, that a
whale had been seen off the northern point, or at least something as large as a whale and equally
wet.

On Sundays the village met in the hall behind the church. There was a concert by the brass band,
which had lost its tuba player to a shipping company in Bristol and now left a pause wherever the
tuba should have been. People had grown fond of those pauses. The schoolmaster, Mr. Finch, gave a
lecture on the stars with a magic lantern. He explained that the light of some of them had set out
before the church was built, and a child in the front row asked who had been there to see them
off. Nobody laughed. Mr. Finch thought about it for a long time and said that he would look it up.

In the middle of the month a postcard arrived. It showed a yellow tram on a steep street, and on the
back there was written in green ink: “Weather splendid. The soup here is made of cabbage and is
better than it sounds. Have met a man who knows a man. Greetings to the cat.” There was no name
under it. Martha pinned it to the shelf above the stove, where it curled a little more each day in
the steam of the kettle, until only the back wheels of the tram could be seen.

Then there was the matter of the auction. The old ropeworks at Hallow Creek were sold up, with all
their furniture, and half the county drove over to look. Mrs. Pell bought a stuffed owl for two
shillings and carried it home in a hat box. Edwin Sparrow bid for a steam gauge, lost it to a
farmer, and won instead, without meaning to, a crate of four hundred brass buttons. For weeks after
that one could tell which children had been kind to the postman, because their coats shone. Martha
bought nothing, but she came home with a splinter in her thumb and the uneasy feeling that somebody
had been looking at her from the other side of the room, somebody large, who had gone before the
last lot was called.

In the last week of the month the frost came. The ditches froze first, then the pond, and at last
the edge of the marsh itself, so that the reeds stood in glass and rattled when the wind went
through them. Edwin Sparrow delivered the post on skates. Mrs. Pell caught a cold and was cross
with everyone, even with the cat, who slept on her feet all the same. Martha made a soup of leeks
and barley from a recipe that called for a quart of stock, three large leeks, a cup of barley, a
spoon of mustard and the patience of a saint, and she carried it across the yard in a covered pot,
walking slowly like a bride.

It was on one of these evenings, with the lamp already lit, that there came a knock at the door. It
was neither the postman's knock, which was quick and double, nor Mrs. Pell's, which was made with a
stick. It was a slow knock, three times, with a long wait between.

On the step stood a broad man in a sealskin coat. There was snow on his beard. He carried a lantern
in one hand and in the other a parcel tied with tarred string, and he smiled as men smile who have
practised it in a mirror.

“Good evening, miss,” he said. “I am an old friend of the gentleman of the house. I have come about
some papers of his. Maps, they are, and old ones. I should be glad to take them off your hands, and
to pay for the trouble.” He held up the parcel. “There is a clock in here from Geneva that shows
the tides of eleven harbours.”

Martha felt her heart beat. She asked him in, because it was cold, and because one does not shut a
door on a man with snow in his beard. She took his coat, which smelled of tobacco and tar. She gave
him the good chair by the stove. Then she went into the kitchen, where Mrs. Pell sat wrapped in two
shawls over her cards, and closed the door behind her.

“It is he,” she whispered. “What was I to do? I have forgotten half of it.”

“Then read me your letter again,” said Mrs. Pell, “slowly, and from the beginning, and leave
nothing out.”

So Martha took the letter out of the pocket of her apron, held it under the lamp, and read it to
the old woman word for word:

""").replace("{letter}", LETTER)

# ----------------------------------------------------------------------------------- the lease

CLAUSES = tuple(
    _paragraphs(clause)
    for clause in (
        """
1. The premises. The landlord lets to the tenant the mill house at Weir Lane, with its garden, its
two sheds and the eastern half of the orchard. The western half of the orchard, the mill wheel and
the eel trap remain with the landlord, who may cross the garden on foot to reach them, by daylight
and after ringing the bell.
""",
        """
2. The rent. The rent is four hundred and twenty crowns a month, to be paid on the first working day
into the landlord's account at the Savings Bank of Harrow. A payment that arrives after the tenth is
late, and each week of delay adds six crowns. Rent paid in coin is counted in the presence of both
parties.
""",
        """
3. The deposit. Before moving in, the tenant pays a deposit of nine hundred crowns. The landlord
keeps it apart from his own money and returns it within thirty days after the keys have been handed
over, less the cost of repairs for which the tenant is liable, with a written list of these.
""",
        """
4. Heating and firewood. The tile stove in the parlour may be fired with beech, ash or oak, never
with driftwood, whose salt destroys the flue. The tenant has the chimney swept in March and in
October at his own expense and shows the sweep's certificate on request. Ashes are left to cool in
the iron bucket for two nights.
""",
        """
5. Animals. The tenant may keep up to two cats, one dog that does not bark at the ferry, and as many
hens as the shed will hold. Geese are not permitted, since the landlord's late father was bitten by
one. Bees require the consent of the neighbours on both sides of the lane.
""",
        """
6. The garden. The tenant waters the roses along the south wall, cuts the hedge to the height of the
gate before midsummer, and leaves the old walnut tree alone. Fruit from the eastern trees belongs to
the tenant, except for the first basket of plums, which is delivered to the landlord's sister, Miss
Adela Thorn.
""",
        """
7. High water. When the river rises above the red mark on the bridge, the tenant carries the carpets
to the upper floor, opens both cellar doors so that the water may pass through, and telephones the
lock keeper at number 317. Damage by water to anything left in the cellar is borne by the tenant.
""",
        """
8. Visitors and lodgers. Guests may stay for three weeks. Whoever stays longer is a lodger and needs
the landlord's consent in writing, which he will not refuse without a reason. Musicians are welcome,
but brass instruments are not to be played after nine in the evening or during the trout season.
""",
        """
9. Repairs. Small repairs up to the sum of thirty crowns are the tenant's affair. Greater ones are
reported to the landlord by letter, and he sends a craftsman within fourteen days. The roof, the
wheel shaft and the bell wire are always the landlord's, even where a guest of the tenant has broken
them.
""",
        """
10. Notice. Either party may end this lease with three months' notice to the end of a quarter, by
registered letter. If the tenant marries, the notice shortens to one month. If the mill is sold, the
buyer steps into the landlord's place, and nothing in this lease changes by the sale.
""",
        """
11. The keys. The tenant receives four keys: two for the front door, one for the cellar and one for
the sheds. Lost keys are replaced at the tenant's cost, and the lock with them. A copy may be left
with the ferryman, who has held the keys of every house on the lane for forty years.
""",
        """
12. Insurance. The landlord insures the house against fire, storm and fallen trees with the Harrow
Mutual. Furniture, clothing and musical instruments are not covered, and the tenant is advised to
insure these himself. A fire, however small, is reported to the Mutual within three days, and the
charred parts are kept for inspection.
""",
        """
13. The ferry. The tenant may cross on the ferry free of charge until the last bell, together with
one companion and a bicycle. Carts, pianos and cattle are charged at the public rate. When ice is on
the river the ferryman alone decides whether to cross, and he is not to be given brandy before he
has decided.
""",
        """
14. Light and water. The tenant pays for electric current by the meter behind the pantry door, which
is read in January and in July. Water from the well is free. In dry summers the pump is not to be
used between noon and five, so that the trough at the lane does not run empty while the horses come
home.
""",
        """
15. Alterations. Walls may be painted in any colour except the red of the boat club. Nails may be
driven into the beams but not into the panelling of the parlour. Shelves, partitions and pigeon
lofts that the tenant has built are left in place at the end of the lease, or removed so that no
trace of them remains.
""",
        """
16. Disputes. Should the parties disagree, they first drink a pot of coffee together in the mill.
Should they still disagree, the parish clerk of Harrow decides, and her decision is final in all
matters below two hundred crowns. Greater matters go to the county court.
""",
    )
)

_NOTES = _paragraphs("""
Signed in two copies at Harrow, on the fourteenth of September, in the presence of the parish clerk.

The first months were quiet. The tenant planted beans and taught the clerk's daughter to play the
trombone, though never after nine. The landlord walked through the garden twice a week to see to his
eels, ringing the bell each time, and on one of these visits he sat down on the bench under the
walnut tree and told the story of how his father had come to buy the mill: with the winnings of a
single night at cards, which he lost again within the year, all but the mill, since nobody would
accept it as a stake.

A year later the two parties wrote to each other often, for it was a wet autumn. The ferry stopped
for nine days. The plums rotted on the branches before anyone could reach the upper orchard, and
Miss Thorn sent a card with a black border. In the tenant's papers there is a note about a dog that
barked, another about a trombone, and a drawing of the bridge with the water at its highest. The
landlord, for his part, had broken his spectacles, and asked the tenant to copy for him, word for
word, the clauses that mattered now. The tenant sat down at the desk and began to copy.

""")


def _lease() -> ShelfText:
    head = "Lease of the mill house\n\nBetween Mr. Julius Thorn, landlord, and the tenant.\n\n"
    prompt = head + "\n\n".join(CLAUSES) + "\n\n" + _NOTES + "\n\n"
    chosen = ((7, "High water"), (4, "Firewood"), (10, "Notice"))
    parts = tuple((f"Clause {n}: {title}", CLAUSES[n - 1] + "\n\n") for n, title in chosen)
    return ShelfText("The lease", prompt, parts)


# ------------------------------------------------------------------------------ Alice, held out


def _alice() -> ShelfText:
    text = next(d for d in corpus.load("heldout", "prose") if d.name == "alice.txt").text

    def passage(first: str, last: str) -> str:
        begin = text.index(first)
        return text[begin : text.index(last, begin) + len(last)]

    told = passage("Alice was beginning to get very tired", "sooner or later.")
    cue = (
        "\n\nWhen Alice had told all this, her sister asked her to tell the best parts once more, "
        "in just the same words. So Alice began again:\n\n"
    )
    parts = (
        ("The well", passage("She took down a jar", "she fell past it.")),
        (
            "The golden key",
            passage("However, on the second time round", "to her great delight it fitted!"),
        ),
        ("Do cats eat bats?", passage("Dinah my dear!", "‘Do bats eat cats?’")),
    )
    return ShelfText(
        "Alice tells it again", told + cue, tuple((title, part + "\n\n") for title, part in parts)
    )


# ------------------------------------------------------------------------------------ all three

N_WRITTEN = 224  # tokens that SmolLM2 writes after "The letter"


@functools.cache
def shelf_texts() -> dict[str, ShelfText]:
    """The texts by the names that explorers use for them."""
    return {
        "letter": ShelfText("The letter", _STORY + "\n\n" + LETTER[:25], (), n_new=N_WRITTEN),
        "lease": _lease(),
        "alice": _alice(),
    }
