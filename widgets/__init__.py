"""What readers move and see: the kit, the figures, the explorers.

theme.py          colours and the common figure layout
kit/              what every explorer is made of
figures/<paper>   record → figure
panels/<paper>    figure + controls = explorer
"""
